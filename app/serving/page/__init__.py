"""The page to try a network on: its files, which no tool builds, and what it shows of a network beside the answers:
examples, and a picture as the network sees it. No TensorFlow.
"""
