"""Sightline on AWS as CDK stacks: storage and registry, an endpoint, a pipeline that trains and deploys again.

It stands on its own: aws_cdk and constructs, nothing of Sightline. What it makes is what `sightline cloud deploy` and
`sightline cloud template` make; tests/infra compares them.
"""

__version__ = "0.1.0"
"""Of the images that it takes where none are named, and of what its tags say."""
