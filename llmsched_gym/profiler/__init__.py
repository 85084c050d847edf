"""Bayesian networks over the stages of an application: fitting, exact inference, information."""
