"""Image encoders of open_clip, timm, torchvision and transformers behind one interface."""
