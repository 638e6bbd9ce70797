/**
 * The camera: frames as they come, until it is stopped.
 */

export class Camera {
  /** @param {HTMLVideoElement} video not shown */
  constructor(video) {
    this.video = video;
    /** @type {MediaStream|null} */
    this.stream = null;
    this.facing = 'environment';
  }

  get runs() {
    return this.stream !== null;
  }

  /** Opens the camera. @throws {DOMException} where there is none, or it may not be used */
  async start() {
    this.stop();
    const video = { facingMode: this.facing, width: { ideal: 960 }, height: { ideal: 720 } };
    this.stream = await navigator.mediaDevices.getUserMedia({ video, audio: false });
    this.video.srcObject = this.stream;
    await this.video.play();
  }

  /** Changes between the camera in front and the one at the back. */
  async turn() {
    this.facing = this.facing === 'environment' ? 'user' : 'environment';
    await this.start();
  }

  /** @returns {{source: HTMLVideoElement, width: number, height: number}} */
  get frame() {
    return { source: this.video, width: this.video.videoWidth, height: this.video.videoHeight };
  }

  stop() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = null;
    this.video.srcObject = null;
  }
}
