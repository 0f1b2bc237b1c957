"""From a recipe to the cells of its plan."""
