"""From lock to image, the impure part: resolve, fetch, build, check, and the embedded environment."""
