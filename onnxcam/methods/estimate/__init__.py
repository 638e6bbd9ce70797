"""Estimating scores instead of measuring them: Score-CAM's `budget`, `tolerance` and the command line's `--fast`.

Feature maps of one image come in; maps with an error bound go out, after far fewer forward passes. rounds.py is the
loop that score_cam.py uses: it scores masks in rounds and returns a map after each. quadrature.py chooses the masks and
predicts the scores of all others; kernel.py is its covariance, links.py turns scores into numbers that it can predict.
All products keep to the calling thread (onnxcam/products.py, cholesky.py), so that threads fit pictures side by side.
"""
