"""Facts as rows, each checked when it is imported: a row that is malformed or given twice raises there."""
