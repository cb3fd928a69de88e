"""How a mask or a heat map is judged, at what cost, and what a difference between two of them is worth."""
