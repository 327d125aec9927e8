"""Drawing: charts and self-contained HTML pages shared by the rooms' reports."""
