"""Programs that are executed beside an agent, each with the standard library alone; nothing of Plait imports them."""
