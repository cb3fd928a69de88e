"""What is evolved, by what, towards what: genome, operators, fitness, scoring, surrogate, and the engine of stages."""
