"""Turn texts into scores: tokenise, batch, compute. Shared by predictor, trainer and embedded."""
