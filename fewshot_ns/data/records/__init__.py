"""What travels from a dataparser to the model: records of scenes, views and their geometry."""
