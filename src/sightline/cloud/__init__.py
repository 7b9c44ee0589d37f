"""SageMaker through boto3 alone: requests built as plain data, checked without a network, shown, then sent. No torch.

naming    names and tags                              requests   training jobs as plain data; tuning jobs
hosting   models, endpoints, scaling as plain data    shapes     a request against botocore's own description of it
rules     what the platform demands beyond that       account    credentials, region, role, bucket, all checked first
failures  what AWS answers -> where, what, fix        metrics    our console line: expressions and progress
logs      a job's log, followed                       jobs       training: planned, sent, followed, stopped
costs     billable seconds times a price              fetching   a job's model and report -> a run folder
deploys   a model as an endpoint, new or updated      endpoints  `sagemaker://NAME` as a model
searches  tuning jobs, followed, their best            transforms  batch transforms, answers joined to the pictures
lookup    a name -> a training, a search, a transform
deletion  what a deploy made, listed and taken away   policies   the least rights of each action
images    containers built and pushed                 drivers    which CUDA runs on which host
"""
