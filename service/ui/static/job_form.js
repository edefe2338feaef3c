// The form for a new tuning job: two requests, first the file, then the job that uses it.

import { api } from "./api.js";
import { byId, notice } from "./dom.js";

export class JobForm {
  /** onCreated gets the new job. */
  constructor(onCreated) {
    this.onCreated = onCreated;
    this.model = byId("job-model");
    this.file = byId("job-file");
    this.notice = byId("job-form-notice");
    this.status = byId("job-form-status");
    byId("job-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    this.file.addEventListener("change", () => this.notice.replaceChildren());
  }

  async loadModels(wanted) {
    try {
      const bases = (await api.models()).data.filter((model) => !model.base_model);
      const chosen = wanted || this.model.value;
      this.model.replaceChildren(...bases.map((model) => new Option(model.id, model.id)));
      if (bases.some((model) => model.id === chosen)) this.model.value = chosen;
      if (!bases.length) this.notice.replaceChildren(notice("empty", "No base model here yet", "Run “vitrine setup” on the server first."));
      else if (this.failedToList) this.notice.replaceChildren();
      this.failedToList = false;
    } catch (error) {
      this.failedToList = true;
      this.notice.replaceChildren(notice("error", "The models could not be listed", error.message));
    }
  }

  async submit() {
    const button = byId("job-submit");
    button.disabled = true; // a second click would make a second job
    this.notice.replaceChildren();
    try {
      this.status.textContent = "Uploading…";
      const file = await api.uploadFile(this.file.files[0]);
      this.status.textContent = "Creating the job…";
      const suffix = byId("job-suffix").value.trim();
      const epochs = byId("job-epochs").value;
      const job = await api.createJob({
        model: this.model.value,
        training_file: file.id,
        ...(epochs ? { hyperparameters: { n_epochs: Number(epochs) } } : {}),
        ...(suffix ? { suffix } : {}),
      });
      byId("job-form").reset();
      this.onCreated(job);
    } catch (error) {
      this.notice.replaceChildren(notice("error", "The job was not created", error.message));
    }
    this.status.textContent = "";
    button.disabled = false;
  }
}
