"""What a program needs whatever it does: errors, whole files, progress, signals, silence. Knows nothing of images and
networks, imports nothing of the other rooms; everybody may come in.
"""
