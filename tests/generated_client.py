"""What a program does that has nothing but a client generated from our OpenAPI document. Run by `e2e/test_openapi.py` in a
process of its own, with the generated package `vitrine_client` on the path.

    python tests/generated_client.py URL KEY MODEL
"""

import io
import sys

from vitrine_client import AuthenticatedClient
from vitrine_client.api.explain import show_attention
from vitrine_client.api.files import delete_file, get_file, list_files, upload_file
from vitrine_client.api.fine_tuning import cancel_job, create_job, get_job, list_jobs
from vitrine_client.api.inference import classify, create_embeddings
from vitrine_client.api.models import list_models
from vitrine_client.models.attention_request import AttentionRequest
from vitrine_client.models.attention_response import AttentionResponse
from vitrine_client.models.classification import Classification
from vitrine_client.models.classify_request import ClassifyRequest
from vitrine_client.models.classify_response import ClassifyResponse
from vitrine_client.models.create_job_request import CreateJobRequest
from vitrine_client.models.embeddings_request import EmbeddingsRequest
from vitrine_client.models.embeddings_response import EmbeddingsResponse
from vitrine_client.models.error_body import ErrorBody
from vitrine_client.models.file_list import FileList
from vitrine_client.models.file_object import FileObject
from vitrine_client.models.hyperparameters import Hyperparameters
from vitrine_client.models.job_list import JobList
from vitrine_client.models.job_object import JobObject
from vitrine_client.models.job_object_status import JobObjectStatus
from vitrine_client.models.model_list import ModelList
from vitrine_client.models.upload_file_body import UploadFileBody
from vitrine_client.models.upload_file_body_purpose import UploadFileBodyPurpose
from vitrine_client.types import File

ROWS = b"".join(b'{"text": "text %d", "label": "%s"}\n' % (n, (b"good", b"bad")[n % 2]) for n in range(20))


def main() -> None:
    url, key, model = sys.argv[1:]
    client = AuthenticatedClient(base_url=url, token=key, timeout=60)

    answered = classify.sync(client=client, body=ClassifyRequest(model=model, input_=["A good film", "A bad film"]))
    assert isinstance(answered, ClassifyResponse)
    assert all(isinstance(item, Classification) for item in answered.data)
    assert {item.label for item in answered.data} <= {"positive", "negative"}
    assert answered.usage.total_tokens > 4

    vectors = create_embeddings.sync(client=client, body=EmbeddingsRequest(model=model, input_="A good film"))
    assert isinstance(vectors, EmbeddingsResponse)
    assert len(vectors.data[0].embedding) == 32

    seen = show_attention.sync(client=client, body=AttentionRequest(model=model, input_="A good film", layers=[0]))
    assert isinstance(seen, AttentionResponse)
    assert abs(sum(seen.weights[0][0][0]) - 1) < 1e-2

    file = UploadFileBody(
        file=File(payload=io.BytesIO(ROWS), file_name="rows.jsonl"), purpose=UploadFileBodyPurpose.FINE_TUNE
    )
    uploaded = upload_file.sync(client=client, body=file)
    assert isinstance(uploaded, FileObject)
    assert uploaded.bytes_ == len(ROWS)
    found = get_file.sync(uploaded.id, client=client)
    assert isinstance(found, FileObject)
    assert found.filename == "rows.jsonl"
    files = list_files.sync(client=client, limit=1)
    assert isinstance(files, FileList)
    assert [item.id for item in files.data] == [uploaded.id]

    wanted = CreateJobRequest(model="minilm-l6", training_file=uploaded.id, hyperparameters=Hyperparameters(n_epochs=1))
    job = create_job.sync(client=client, body=wanted)
    assert isinstance(job, JobObject)
    assert job.status == JobObjectStatus.VALIDATING_FILES
    jobs = list_jobs.sync(client=client, limit=1)
    assert isinstance(jobs, JobList)
    assert [item.id for item in jobs.data] == [job.id]
    cancelled = cancel_job.sync(job.id, client=client)
    assert isinstance(cancelled, JobObject)
    assert cancelled.status == JobObjectStatus.CANCELLED

    again = cancel_job.sync_detailed(job.id, client=client)
    assert again.status_code == 409
    assert again.headers["x-should-retry"] == "false"
    assert isinstance(again.parsed, ErrorBody)
    assert again.parsed.error.code == "conflict"
    unknown = get_job.sync("ftjob-none", client=client)
    assert isinstance(unknown, ErrorBody)
    assert unknown.error.code == "job_not_found"
    refused = list_models.sync(client=AuthenticatedClient(base_url=url, token="vt-wrong"))
    assert isinstance(refused, ErrorBody)
    assert refused.error.code == "invalid_api_key"

    models = list_models.sync(client=client)
    assert isinstance(models, ModelList)
    assert model in {item.id for item in models.data}
    assert delete_file.sync_detailed(uploaded.id, client=client).status_code == 200
    print("all as typed models")


if __name__ == "__main__":
    main()
