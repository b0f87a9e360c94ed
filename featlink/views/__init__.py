"""What a person looks at: detections compared on their picture, and features as planes."""
