"""Code that all agents share: rollouts, the compiled update, schedules, adapters and the agent registry."""
