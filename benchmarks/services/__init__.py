"""Services that exist to be measured. Started by the benchmarks."""
