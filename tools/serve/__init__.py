"""A run's search as a service: a page, a JSON API, and Caffe in a process of its own.

`__main__` starts it. `limits` and `gate` refuse what is too large or not meant, before anything
else sees it; `encoder` runs `encode_loop`, the process with Caffe; `service` answers a picture;
`api` and `page` show the answers.
"""
