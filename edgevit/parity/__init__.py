"""Is a build as good as the float reference? Metrics, their statistics and the ladder of comparisons.

`ladder.climb` compares every stage in one pass over the evaluation samples, `compare.compare` one pair of outputs;
`verdict` holds what a verdict rests on, `statistics` the tests behind it.
"""
