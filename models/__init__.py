"""What a trained model is: its formula, scoring, top-N, fold-in, relevance. It knows neither HTTP nor how a model was fitted."""
