"""What a model costs to run: latency by stage, throughput, memory, start time, dollars, and a plan made of them."""
