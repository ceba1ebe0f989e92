"""The nodes of a cluster: each proves itself before it trains, gets work as it comes, and answers for what it spoils.

looking.py alone imports Ray.
"""
