"""Images: text-to-image models and the stage that writes image rows."""
