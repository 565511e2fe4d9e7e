"""How good a fitted model is, and whether it may be published. It does not know how the model was fitted."""
