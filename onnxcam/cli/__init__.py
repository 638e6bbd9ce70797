"""The command line, `onnxcam`: parse, call the library, print. It has no logic of its own.

In: the words of a command. Out: files, text or JSON on standard output, and an exit code.

options.py and the commands' own files, such as explain_options.py, declare every option once; parsing.py turns their
text into the library's values; opening.py opens a model with them; overwriting.py says which files may be replaced.
Each command has a file of its name. progress.py and summary.py are what a person sees, and printing.py prints all of
it. start.py is the program: stopping.py handles its signals, streams.py its standard streams; main.py registers the
commands and turns errors into exit codes.
"""
