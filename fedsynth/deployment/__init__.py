"""The coordinator's side of a study that hospitals carry out: Flower's services, a study's run, its controls.

What runs at a hospital is `fedsynth.node`. A rehearsal of the same study on one machine is `fedsynth.rehearsal`.
"""
