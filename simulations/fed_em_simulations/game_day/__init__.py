"""Game day: what goes wrong in practice, provoked on purpose in small federations, told by its symptom, and mended by its runbook."""
