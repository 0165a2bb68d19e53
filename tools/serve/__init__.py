"""A run's search as a service: a page, a JSON API, and Caffe in a process of its own."""
