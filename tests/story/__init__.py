"""The story: `registration dev` as a person runs it, from POST to event, and the commands that join it."""
