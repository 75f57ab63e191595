"""Time series: tables sorted by their dates, cut into windows."""
