"""From the bytes of an image file to the tensor a network takes, and to what people are shown of it. The only room that
decodes. Imports `program` alone; `run_folder`, `datasets` and all above come here.
"""
