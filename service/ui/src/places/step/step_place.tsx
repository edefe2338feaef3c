export function StepPlace() {
  return <div class="place">step</div>;
}
