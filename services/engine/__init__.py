"""What turns texts into scores; shared by predictor, trainer and embedded. Knows no project and no bucket."""
