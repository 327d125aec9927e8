"""Records in and out, the stages, the pipeline that runs them, and its report."""
