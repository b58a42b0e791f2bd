"""Choosing a candidate for each group of layers: groups, scores, costs, the integer programme, and what is measured."""
