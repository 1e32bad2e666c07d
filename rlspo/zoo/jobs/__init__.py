"""Work in processes of their own, for the commands that run many trainings: one lock and one pool of workers."""
