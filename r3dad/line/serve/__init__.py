"""``r3dad serve``: scans come in over HTTP, inspections go out (extra ``serve``: FastAPI, uvicorn, python-multipart)."""
