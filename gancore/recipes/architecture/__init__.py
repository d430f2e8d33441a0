"""Networks of another make: pyramids of images, canvases that are drawn on in steps."""
