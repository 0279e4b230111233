"""What is known of a network without training it: its card, its drawing, its maps, what a unit sees, and the classes of
ImageNet. Imports `program` and the networks themselves; whoever asks about structure comes here.
"""
