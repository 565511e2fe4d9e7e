"""What a trained model is: formula, scoring, top-N, fold-in, relevance. It knows no HTTP and no trainers."""
