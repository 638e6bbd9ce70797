"""A gradient rule for every operator: from the cotangent of what a node gives to those of what it takes."""
