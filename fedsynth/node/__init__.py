"""The processes of a site: link has a network, gate has policy, ledger and windows, train has neither.

Three users, and the kernel between them. What is decided is `fedsynth.site.session`; here is who may ask for it.
"""
