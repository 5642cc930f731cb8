"""Coverage-guided fuzzing: what each target does with bytes (``targets``), and the fuzzer around it (``__main__``)."""
