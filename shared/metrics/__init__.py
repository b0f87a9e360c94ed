"""How near a distorted pyramid or image is to the clean one."""
