"""One loop, and what it needs: optimizer, schedule, hooks, and the state that a resumed run continues from."""
