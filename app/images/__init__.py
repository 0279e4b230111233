"""From the bytes of an image file to the tensor a network takes, and to what people are shown of it. The only room
that decodes with TensorFlow; Pillow decodes in `export.picture_files`, whose limits are taken here. Imports `program`;
`run_folder`, `datasets` and all above come here.
"""
