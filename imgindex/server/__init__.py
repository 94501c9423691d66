"""The HTTP API and the web page of `imgindex serve`."""
