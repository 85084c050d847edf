"""Running a policy of a stranger where it can do nothing but decide."""
