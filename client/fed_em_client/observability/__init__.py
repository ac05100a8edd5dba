"""What an operator can watch: metrics, logs and traces. The parts that both sides share, and the tenant's own."""
