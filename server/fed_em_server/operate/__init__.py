"""Operating a model: its drift is measured, it is fitted again when there is some, and put to use if it is better."""
