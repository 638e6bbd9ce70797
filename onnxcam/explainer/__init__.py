"""The Explainer and the steps of one explanation: a picture and targets in, Saliency results out.

Read explainer.py first. A call goes through these files in this order: arguments.py checks what was passed; the package
onnxcam.inputs loads the picture; pipeline.py runs it once through the network (a ForwardPass); targets/ finds the
numbers of the output that the targets mean; lockstep.py runs the method; results.py makes Saliency results of its
outcomes. heads.py opens a graph for each output that targets need. prefetch.py explains many pictures in order, and
reads the next ones meanwhile. device_maps.py leaves maps on the device.
"""
