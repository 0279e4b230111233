"""DeepDream: a picture is (what to make more of) x (how a step may change it) x (what it is seen through).

objectives.py       what to make more of: a layer, a channel, what a guide has in a layer
parametrizations.py how a step may change the picture: by pixels, or by decorrelated colours and frequencies
laplacian.py        the same strength for every band of frequencies
transformations.py  what the picture is seen through: turned and scaled at random
tiles.py            gradients of a picture of any size, tile by tile, on a picture that is rolled at random
ascent.py           the steps, through octaves of growing size

After Mordvintsev, Olah and Tyka 2015, "Inceptionism" and "DeepDream", and the design of TensorFlow's lucid (Olah,
Mordvintsev and Schubert 2017, https://distill.pub/2017/feature-visualization). Pictures are RGB of 0 to 255.
"""
